"""Models as ONNX files: layers as operators of ONNX Runtime, and the graph of the whole pass."""
