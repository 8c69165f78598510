"""From a prediction and findings to DICOM result objects."""
