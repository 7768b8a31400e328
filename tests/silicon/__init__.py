"""The tensor core itself, asked bit by bit. Start with README.md."""
