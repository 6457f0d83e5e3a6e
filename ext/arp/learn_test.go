package arp

import (
	"fmt"
	"testing"
)

func TestDecide(t *testing.T) {
	answer := claim{reply: true, toUs: true, direct: true, onLink: true}
	wide := claim{reply: true, toUs: true, onLink: true}
	announcement := claim{gratuitous: true, onLink: true}
	request := claim{toUs: true, onLink: true}
	overheard := claim{onLink: true}

	unresolved := belief{known: true}
	asked := belief{known: true, waiting: true}
	same := belief{known: true, resolved: true, same: true}
	moved := belief{known: true, resolved: true}
	with := func(b belief, f func(*belief)) belief { f(&b); return b }
	waiting := func(b *belief) { b.waiting = true }
	router := func(b *belief) { b.router = true }
	locked := func(b *belief) { b.locked = true }

	tests := []struct {
		name   string
		c      claim
		b      belief
		accept Accept
		guard  RouterGuard
		want   verdict
		why    Refusal
	}{
		{"an answer resolves", answer, asked, 0, 0, doLearnSure, 0},
		{"a broadcast answer does not assert reachability", wide, asked, 0, 0, doLearn, 0},
		{"a request from whom we ask resolves", request, asked, 0, 0, doLearn, 0},
		{"a reply nobody asked for, to a failed entry", answer, unresolved, 0, 0, doRefuse, RefusedUnsolicited},
		{"an announcement of a failed entry", announcement, unresolved, 0, 0, doLearn, 0},
		{"an answer confirms", answer, with(same, waiting), 0, 0, doConfirm, 0},
		{"the same without a question", answer, same, 0, 0, doRefresh, 0},
		{"an answer moves", answer, with(moved, waiting), 0, 0, doLearnSure, 0},
		{"even a router", answer, with(with(moved, waiting), router), 0, RefuseRouters, doLearnSure, 0},
		{"but not within the lock time", answer, with(with(moved, waiting), locked), 0, 0, doRefuse, RefusedLocked},
		{"an announcement moves", announcement, moved, 0, 0, doLearn, 0},
		{"unless never", announcement, moved, AcceptNever, 0, doRefuse, RefusedPolicy},
		{"a request for us moves, even then", request, moved, AcceptNever, 0, doLearn, 0},
		{"an overheard request moves", overheard, moved, 0, 0, doLearn, 0},
		{"unless never", overheard, moved, AcceptNever, 0, doRefuse, RefusedPolicy},
		{"within the lock time, the old link address is asked", announcement, with(moved, locked), 0, 0, doVerify, RefusedLocked},
		{"also at its request within the lock time", request, with(moved, locked), 0, 0, doVerify, RefusedLocked},
		{"unless never, within the lock time", announcement, with(moved, locked), AcceptNever, 0, doRefuse, RefusedLocked},
		{"a reply nobody asked for, within the lock time", answer, with(moved, locked), 0, 0, doRefuse, RefusedUnsolicited},
		{"a router within the lock time", announcement, with(with(moved, locked), router), 0, RefuseRouters, doRefuse, RefusedLocked},
		{"a router is verified", announcement, with(moved, router), 0, 0, doVerify, RefusedRouter},
		{"also at its request", request, with(moved, router), 0, 0, doVerify, RefusedRouter},
		{"or refused", announcement, with(moved, router), 0, RefuseRouters, doRefuse, RefusedRouter},
		{"or trusted", announcement, with(moved, router), 0, TrustRouters, doLearn, 0},
		{"an unknown router does not introduce itself", request, belief{router: true}, 0, 0, doRefuse, RefusedRouter},
		{"nor by an announcement", announcement, belief{router: true}, AcceptAny, 0, doRefuse, RefusedRouter},
		{"nor while it is being resolved", announcement, with(asked, router), 0, 0, doRefuse, RefusedRouter},
		{"unless trusted", request, belief{router: true}, 0, TrustRouters, doLearn, 0},
		{"an unknown router asks for others", overheard, belief{router: true}, 0, 0, doNothing, 0},
		{"a router that is being resolved answers", answer, with(asked, router), 0, RefuseRouters, doLearnSure, 0},
		{"permanent stays", answer, belief{known: true, resolved: true, permanent: true, waiting: true}, AcceptAny, TrustRouters, doRefuse, RefusedPermanent},
		{"permanent agrees", answer, belief{known: true, resolved: true, permanent: true, same: true}, 0, 0, doNothing, 0},
		{"a stranger asks for us", request, belief{}, AcceptNever, 0, doLearn, 0},
		{"a stranger from elsewhere", claim{toUs: true}, belief{}, AcceptAny, 0, doNothing, 0},
		{"a stranger asks for others", overheard, belief{}, AcceptAny, 0, doNothing, 0},
		{"a stranger replies", answer, belief{}, AcceptAny, 0, doNothing, 0},
		{"a stranger announces", announcement, belief{}, AcceptKnown, 0, doNothing, 0},
		{"a stranger announces, on-link", announcement, belief{}, AcceptSubnet, 0, doLearn, 0},
		{"a stranger announces, off-link", claim{gratuitous: true}, belief{}, AcceptSubnet, 0, doNothing, 0},
		{"a stranger announces, any", claim{gratuitous: true, reply: true}, belief{}, AcceptAny, 0, doLearn, 0},
	}
	for i, tt := range tests {
		t.Run(fmt.Sprint(i, " ", tt.name), func(t *testing.T) {
			o := Options{Accept: tt.accept, RouterGuard: tt.guard}
			if v, why := o.decide(tt.c, tt.b); v != tt.want || why != tt.why {
				t.Errorf("decide = %v (%v), want %v (%v)", v, why, tt.want, tt.why)
			}
		})
	}
}
