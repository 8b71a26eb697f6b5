"""Online tracking (Section 4): geometry, crop, memory, scoring, the pure steps, and the friendly tracker."""
