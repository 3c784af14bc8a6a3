"""One file a page: `build(services)` lays it out; its handlers are plain functions."""
