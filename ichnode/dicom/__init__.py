"""The DICOM network: SCP, SCU, contexts and statuses."""
