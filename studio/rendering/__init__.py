"""What all pages that render pictures share: asks, arms, shots."""
