"""The toolkit of every page: templates, text, SVG and thumbnails. No page of its own; knows no run and no study."""
