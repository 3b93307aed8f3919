"""Images to review as files for other tools, and reviews and appeals from their files. Nothing here talks to these tools."""
