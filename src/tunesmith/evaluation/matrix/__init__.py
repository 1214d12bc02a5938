"""The measured table: scenarios by techniques. Pure: recipes and run folders in, a document out."""
