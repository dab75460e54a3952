"""The archive in Parquet, SQL over it, and the monthly report. DuckDB is loaded only when it is needed."""
