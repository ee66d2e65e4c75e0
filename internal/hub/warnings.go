package hub

// warning is something an operator has to see to although the hub serves.
type warning struct {
	part string // of a closed set: it is a label of a metric
	says string
}

// The parts that warnings are about.
const (
	partCertificate = "certificate"
	partRevocation  = "revocation"
)

var warningParts = []string{partCertificate, partRevocation}

// concerns are what is not as it should be now; none of it keeps the hub from serving.
func (h *Hub) concerns() (all []warning) {
	if err := h.certificates.trouble(); err != nil {
		all = append(all, warning{partCertificate, err.Error()})
	}
	if h.cfg.External != nil && h.system == nil {
		all = append(all, warning{partRevocation, "revoked sites stay connected to the bus until their credentials end: this hub does not speak for its system account"})
	} else if h.system != nil {
		if err := h.system.Trouble(); err != nil {
			all = append(all, warning{partRevocation, "revoked sites may stay connected to the bus until their credentials end: " + err.Error()})
		}
	}
	return all
}

// said are the warnings in words.
func said(all []warning) (lines []string) {
	for _, w := range all {
		lines = append(lines, w.part+": "+w.says)
	}
	return lines
}
