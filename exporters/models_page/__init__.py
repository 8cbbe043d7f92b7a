"""docs/models.md: what each published model is for, how good it is and what it answers, made from the repository.

page.py       the text, from manifests alone: a test can afford to hold the committed page against it
samples.py    published graphs, run on the engine that serves them, on the rows published with them
pictures.py   those rows and answers, drawn
sheet.py      pictures that a version draws of texts
writing.py    all of it, to a folder
"""
