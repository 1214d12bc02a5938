"""What will be trained, looked at before anything is spent.

    facts      the numbers, as they are kept in xray.json
    lengths    the lengths of rows and their histogram
    labels     the balance of the labels of labelled rows
    overlap    rows that are, or nearly are, in two sides
    build      arrays of each side -> facts
    serving    is what is trained what a server would send?
    verdicts   what is wrong with the numbers, and what to do
    page       facts and the first rows as one HTML page
    token_view rows as tokens, on that page

Everything is computed from arrays of some bytes a row: a file of any size can be looked at.
"""
