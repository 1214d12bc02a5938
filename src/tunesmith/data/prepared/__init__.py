"""Rows of a file made ready once, by worker processes, and kept on disk.

    chunk      one block of rows -> arrays; runs in a worker, or here where a file is small
    workers    sends blocks to processes and takes the arrays back in order
    store      the arrays of a file in one folder, read by memory map
    key        what a prepared file depends on, and why an earlier one does not serve
    prepare    ties them together
    sides      which rows are duplicates, trained, held out, in both
    examples   the rows of a side as a sequence, held to the length limit

Memory does not grow with the file: what is held for a row is some tens of bytes.
"""
