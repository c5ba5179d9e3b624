"""How to ask a registry: documents, small blobs and where large ones lie."""
