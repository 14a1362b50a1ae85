"""How an artefact lies on disk: atomic files, sealed folders, checked logs, locks."""
