"""How models come to be: train or convert, export to ONNX, compare, publish. Start reading at exporters/pipeline.py."""
