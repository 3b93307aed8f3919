"""Policy files: reading them, what they include, and what they name: heads, exemplars, hash lists."""
