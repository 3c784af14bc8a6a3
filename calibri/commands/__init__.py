"""One subcommand a file. `register(subparsers)` adds it to the parser and sets `run(args) -> int`."""
