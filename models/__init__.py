"""Networks, one architecture per file, and the bundles they ship as."""
