"""gRPC: the Open Inference Protocol on a port of its own. Nothing else in the gateway knows grpc."""
