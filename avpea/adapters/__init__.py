"""Adapters: small trained modules beside frozen branches. A file here is an adapter's name."""
