"""`prefect.yaml` as this program uses it: reading the file, and checking a deployment before it is made. No Prefect here."""
