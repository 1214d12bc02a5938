"""From a file to a batch, one stage a file.

    rows -> formats -> conversation    a line becomes a sample (json_text, fields, messages read it)
    validate                           every fault of a file, before any model is loaded
    tokenizer -> template -> mask -> render    a sample becomes tokens and weights
    pack, collate                      steps, tensors

`prepared` does all that in a stream and keeps it; `pipeline` ties it together; `xray` and `show`
describe what came out. Only `collate` imports torch, only `tokenizer` imports transformers.
"""
