package runner

// WrittenOctet is writtenOctet for tests.
var WrittenOctet = writtenOctet
