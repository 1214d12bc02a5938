"""The composition root: carries out the recipe in a run folder, from data to report.

process.py    the process of a run, or of one rank of it
carry_out.py  the stages in their order
job.py        a rank's part in a run, which every stage is given
inputs.py     data, tokenizer and what is known of the model, before weights are loaded
planned.py    steps, held-out rows and memory
ready.py      the model with its method, and what it is trained and measured with
steps.py      the steps, with their checkpoints
"""
