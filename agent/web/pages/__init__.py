"""The pages, as functions from values to HTML. Nothing is asked for here, nothing decided."""
