"""How an artefact lies on disk: atomic files, sealed folders, checked logs, locks. Nothing here knows what is inside."""
