package objects

import "strings"

// unknownFields is the annotation under which an object carries what NoteUnknown noted.
const unknownFields = "ambit.io/unknown-fields"

// NoteUnknown has a decoded object remember the fields that came with it and that its type does not have, by their paths:
// "spec.rules[0].from[0].source.realms". A source that decodes leniently calls it, because who translates must not take a condition
// that it does not know for one that is not there. What a user wrote under the annotation's name goes.
func NoteUnknown(o Object, paths []string) {
	all := o.GetAnnotations()
	delete(all, unknownFields)
	if len(paths) == 0 {
		return
	}
	if all == nil {
		all = map[string]string{}
	}
	all[unknownFields] = strings.Join(paths, "\n")
	o.SetAnnotations(all)
}

// Unknown is what NoteUnknown noted.
func Unknown(o Object) []string {
	text := o.GetAnnotations()[unknownFields]
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}
