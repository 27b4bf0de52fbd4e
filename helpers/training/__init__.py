"""CIFAR-10, ResNet20v2, recipes, and the trainer that loses nothing."""
