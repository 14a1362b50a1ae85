"""The search engine: SQLite is the record, BM25 and FAISS are derived from it."""
