"""What must be unique: subnets, blocks of them, and VNIs."""
