package prove

// explain finds the step at which a plan begins to compute something else.
func (c *checker) explain(program int, err error) error { return err }
