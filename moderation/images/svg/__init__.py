"""SVG, as far as it is drawn as browsers draw it: what is beyond that is refused by name, never drawn differently."""
