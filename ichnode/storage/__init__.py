"""What survives a power cut: instance files and the ledger."""
