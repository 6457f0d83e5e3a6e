package target

// Kinds returns the kinds of target that come with Plumbline.
func Kinds() []Kind { return []Kind{TCPX(), GVisor()} }

// Names returns the names of Kinds.
func Names() []string {
	var names []string
	for _, k := range Kinds() {
		names = append(names, k.Name)
	}
	return names
}
