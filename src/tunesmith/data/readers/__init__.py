"""One reader a kind of file, each a stream whose memory does not grow with the file.

opened -> whole lines of UTF-8       unpacks, strips the mark, recodes UTF-16, mends old line ends
kind                                 which reader a file needs, by its name and its first bytes
json_lines                           blocks of lines, decoded where `rows()` is called
json_document                        an array, or an object with a list in it
csv_table, conll, text, parallel     lines to rows
parquet_table                        batches of a Parquet file
"""
