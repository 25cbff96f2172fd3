"""What one trial does, on one device, without knowing who asked."""
