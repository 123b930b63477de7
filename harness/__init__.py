"""What a training run is: instances, the network, the loop driven by three functions, and the score."""
