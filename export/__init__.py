"""What turns a module into an artefact and proves it equal."""
