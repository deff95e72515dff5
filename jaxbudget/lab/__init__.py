"""The laboratory: whatever a workdir needs. The library below never imports it."""
