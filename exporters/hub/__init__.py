"""Checkpoints that users bring: folders as transformers' `save_pretrained` writes them, as versions that can be served.

importing.py    READ FIRST: from a folder to a published version
checkpoint.py   what the folder has, and what of it is refused unread
pictures.py, tokens.py    its preprocessor and its tokenizer, as our manifest says them
clip.py, captioner.py     architectures that can be taken: networks by our tasks' roles, with rows to compare them on
"""
