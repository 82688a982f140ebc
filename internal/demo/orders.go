package demo

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"time"
)

// Order is a sample event: the state of one order of a shop after a change.
type Order struct {
	ID       string    `json:"id"`
	State    string    `json:"state"`
	Region   string    `json:"region"`
	Placed   time.Time `json:"placed"`
	Customer Customer  `json:"customer"`
	Items    []Item    `json:"items"`
	Total    float64   `json:"total"`
	Currency string    `json:"currency"`
}

// Customer is who ordered.
type Customer struct {
	ID      string `json:"id"`
	Country string `json:"country"`
}

// Item is one line of an order.
type Item struct {
	SKU      string  `json:"sku"`
	Name     string  `json:"name"`
	Quantity int     `json:"quantity"`
	Price    float64 `json:"price"`
}

type region struct {
	name, currency string
	countries      []string
	weight         int // of 100 orders
}

var (
	regions = []region{
		{"eu", "EUR", []string{"DE", "FR", "NL", "ES", "PL"}, 40},
		{"us", "USD", []string{"US", "CA"}, 30},
		{"apac", "CNY", []string{"CN", "SG", "JP", "AU"}, 20},
		{"latam", "BRL", []string{"BR", "MX", "CL"}, 10},
	}
	states = []string{"created", "created", "created", "paid", "paid", "packed", "shipped", "shipped", "delivered", "cancelled"}
	goods  = []Item{
		{SKU: "LMP-0031", Name: "desk lamp", Price: 39.90},
		{SKU: "CHR-0107", Name: "oak chair", Price: 129.00},
		{SKU: "MUG-0002", Name: "mug, blue", Price: 8.50},
		{SKU: "RUG-0450", Name: "wool rug 140x200", Price: 219.00},
		{SKU: "SHF-0012", Name: "wall shelf", Price: 54.75},
		{SKU: "CLK-0088", Name: "station clock", Price: 74.00},
		{SKU: "VAS-0019", Name: "vase", Price: 23.20},
	}
)

// sample makes order change n, always the same one but for its time of placing.
func sample(n uint64, now time.Time) (subject string, o Order) {
	r := rand.New(rand.NewPCG(n, 0x0551a7))
	pick := r.IntN(100)
	reg := regions[0]
	for _, reg = range regions {
		if pick -= reg.weight; pick < 0 {
			break
		}
	}
	o = Order{
		ID:       fmt.Sprintf("ord-%08d", n),
		State:    states[r.IntN(len(states))],
		Region:   reg.name,
		Placed:   now.UTC().Truncate(time.Millisecond),
		Customer: Customer{ID: fmt.Sprintf("c-%06d", r.IntN(400_000)), Country: reg.countries[r.IntN(len(reg.countries))]},
		Currency: reg.currency,
	}
	cents := 0
	for range 1 + r.IntN(3) {
		item := goods[r.IntN(len(goods))]
		item.Quantity = 1 + r.IntN(4)
		cents += item.Quantity * int(item.Price*100+0.5)
		o.Items = append(o.Items, item)
	}
	o.Total = float64(cents) / 100
	return "orders." + o.Region + "." + o.State, o
}

// payload is the message that carries o.
func (o Order) payload() []byte {
	b, err := json.Marshal(o)
	if err != nil {
		panic(err) // plain fields: there is nothing in them that JSON cannot hold
	}
	return b
}
