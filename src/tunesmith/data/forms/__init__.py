"""The forms of row, one file a family; `tunesmith.data.formats` holds the table of them."""
