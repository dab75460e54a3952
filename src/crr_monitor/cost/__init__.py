"""What the AWS deployment would cost in a month: counted calls times dated list prices. Values in, values out."""
