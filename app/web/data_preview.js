// Step 1's preview: rows as the model sees them, token by token.

/** Show rows of the dataset that is open. `train` is the train worker's link. */
export function setUpPreview(train) {}
