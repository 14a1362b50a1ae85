"""One file a model: ``Config`` and ``Model`` with ``loss(batch)``. The file name is the registry key."""
