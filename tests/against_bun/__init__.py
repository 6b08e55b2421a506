"""The scenarios that Bun and bunws are compared with, and the two servers that they are played on."""
