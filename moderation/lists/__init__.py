"""Hash lists: known images by PDQ, SHA-256 or MD5. Files are read, hashes matched, and what a match does is decided here.

Pure: streams and arrays in, values out. No ray, prefect or torch may come in here.
"""
