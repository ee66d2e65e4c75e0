package enrol

// Reason is why something was refused. The set is frozen: it crosses the wire and stands in the audit log.
type Reason string

// The reasons.
const (
	Malformed      Reason = "Malformed"      // cannot be read
	Forged         Reason = "Forged"         // not signed by the key it names, or by the key that is pinned
	TokenUnknown   Reason = "TokenUnknown"   // no such token, or not its secret
	TokenExpired   Reason = "TokenExpired"   //
	TokenRevoked   Reason = "TokenRevoked"   //
	TokenSpent     Reason = "TokenSpent"     // all uses are bound to other keys
	NoName         Reason = "NoName"         // the fact that the token's rule names the site by is missing or makes no name
	NameTaken      Reason = "NameTaken"      // another key is that site
	KeyInUse       Reason = "KeyInUse"       // the key is another site's
	NotThere       Reason = "NotThere"       // nothing is enrolled or pending by that name or key
	Decided        Reason = "Decided"        // it was decided otherwise before
	SiteRevoked    Reason = "SiteRevoked"    // shut out for good
	SiteHeld       Reason = "SiteHeld"       // two live copies: nothing new until somebody decides
	WrongIdentity  Reason = "WrongIdentity"  // the site does not have that key
	ProofStale     Reason = "ProofStale"     // the proof of possession is not about a nonce of now
	TooMany        Reason = "TooMany"        // asked too often
	BadToken       Reason = "BadToken"       // a token cannot be made like that
	NotReplaceable Reason = "NotReplaceable" // the site is gone for good
)

// Refusal says what was refused and why. It never repeats a secret.
type Refusal struct {
	Reason Reason
	What   string
	Advice string // may be empty
}

func (r *Refusal) Error() string { return r.What }

// Hint says what to do; it may be empty.
func (r *Refusal) Hint() string { return r.Advice }

func refuse(reason Reason, what, advice string) *Refusal { return &Refusal{reason, what, advice} }
