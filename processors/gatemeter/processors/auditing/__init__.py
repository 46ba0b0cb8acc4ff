"""The checks of `gatemeter audit`: in what order, and those that need Kafka, the fold or the seals."""
