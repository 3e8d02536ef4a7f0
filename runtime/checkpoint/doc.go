// Package checkpoint reads model directories in the layout of Hugging Face.
//
// In goes a directory with config.json and safetensors files, one or many with
// an index; out come the configuration as a tree whose numbers are exact, the
// names, types and shapes of the tensors, and byte ranges of their data. Check
// reports what a directory holds and everything that is wrong with it. Write
// makes a safetensors file.
//
// Files are hostile until checked. Whatever a file says, the package never
// runs or unpickles anything, never reads outside the directory (or outside
// the download cache of which the directory is a snapshot), never waits for a
// pipe or device, never maps files into memory, and refuses a bad file using
// memory and time bounded by the constants beside the code that enforces them.
// It does not know what keys of the configuration or names of tensors mean.
package checkpoint
