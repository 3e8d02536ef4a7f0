package plan

import "strconv"

// PieceName returns the name of the i-th piece, from 0, that a device keeps of
// a weight: tied embeddings are cut along features for the first layer and
// along the vocabulary for the head, and a device may hold some experts whole
// and shares of others. The first piece has the weight's name.
func PieceName(weight string, i int) string {
	if i == 0 {
		return weight
	}
	return weight + "/" + strconv.Itoa(i+1)
}
