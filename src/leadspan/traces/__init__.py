"""Rows of any known format to tokens with exact sections, cut and masked."""
