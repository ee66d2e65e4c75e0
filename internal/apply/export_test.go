package apply

// Desire makes a Desired without a signature, for tests of what happens after verification.
var Desire = desire
